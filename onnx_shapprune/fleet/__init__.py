"""Many models: a list of them, an executor that runs one supervised child process each, a folder with the results."""
