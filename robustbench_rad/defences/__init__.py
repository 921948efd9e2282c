"""Defences before the network, and attacks that go through them.

A defence acts on display images, one grey plane, before they reach the network. A defended model is a
:class:`~robustbench_rad.classifier.Classifier` like any other, so that every attack goes through its defences without
knowing of them: by the exact gradient where a defence has one (flips, rotations, blur, added noise), straight through
where it has none (rounding, JPEG; Athalye, Carlini and Wagner 2018, arXiv:1802.00420), and averaged over what is drawn.

- ``sections``: ``[[model.defences]]`` of the plan; imports no torch.
- ``augmentation``, ``quantisation``, ``jpeg`` (on ``jpeg_transform``), ``blur``, ``noise``: one defence each.
- ``averaging``: several views become one output. ``straight_through``: the gradient of what has none.
- ``chain``: the defended classifier. ``comparison``: the model with and without, from two finished runs.
"""
