"""A model of this machine answers rows in hours that are stated: which ones, and when the rest goes elsewhere."""
