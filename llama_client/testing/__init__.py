"""A test kit for programs that use a chat SDK: this package's, or any other over HTTP."""
