"""Where the rows of a job are asked, what that costs, and when it ends: decided without I/O; `venues` does it."""
