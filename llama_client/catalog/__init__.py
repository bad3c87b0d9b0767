"""Models, the providers that serve them until when, and list prices."""
