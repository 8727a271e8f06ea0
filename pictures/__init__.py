"""Pictures of the documentation, made from the code and from what really runs.

``scripts/pictures`` makes them anew. `pictures.svg` draws the plots of ``scripts/bench``, too.
"""
