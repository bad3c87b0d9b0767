"""The room of the HTTP library: connections, and the carrier that sends what a codec encoded."""
