"""Published defences on an ONNX file and a few labelled pictures, one a module: `repaired` gives the file, and what to say.

Written by their papers, with the constants published there; what a paper leaves open, or what so few pictures make another
thing of, is said in each module under "filled in". Nothing is chosen by what is measured afterwards. Where
they say nothing of it, networks learn in training mode, by the statistics of each batch: see unfolding.
"""
