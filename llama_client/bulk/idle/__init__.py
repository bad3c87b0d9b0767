"""A model of this machine answers rows in hours that are stated: which, where, and when the rest has to go elsewhere."""
