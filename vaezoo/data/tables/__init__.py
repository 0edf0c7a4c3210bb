"""Tables whose columns are of different kinds, with gaps: reading, kinds, and the layout between frame and tensor."""
