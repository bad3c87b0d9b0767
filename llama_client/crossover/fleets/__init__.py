"""A fleet hour by hour: what is reserved, rented, bought or left to an API, and when replicas start and stop."""
