"""What the rows of a job come from: files, tables in memory and iterables, each read in constant memory."""
