"""The providers: each turns a request into its own wire and its own wire into our types."""
