"""Where the picture goes on its way to the scores, read off the graph: nothing runs."""
