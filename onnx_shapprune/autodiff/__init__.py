"""Gradients as ONNX graphs: reverse mode that appends standard-domain nodes to a model.

`loss.attack_gradient` is what the search calls. `engine` walks the graph and knows no operator, `registry` knows which
operators have a rule, `rules` has one function per operator, `builder` appends nodes.
"""
