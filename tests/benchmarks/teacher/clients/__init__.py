"""One script for each client: it takes a job as JSON on its standard input and writes what it got into the job's file.

They run in the rivals' own environments: outside their rival they import nothing but the standard library and ``job``.
"""
