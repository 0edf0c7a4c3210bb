"""Series of varying length: reading, windows, and the layout between series in their own units and a tensor."""
