"""Where a job's results are written: JSON lines, CSV, Parquet and DataFrames, whole or not at all."""
