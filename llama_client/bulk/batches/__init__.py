"""Rows answered by a provider's batch API: a file of requests up, a file of answers down, at a lower price.

`venue` is the door: it splits rows into parts and drives them. `plan` decides about one part, without I/O.
"""
