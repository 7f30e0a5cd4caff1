"""What is issued: stream programs, the policies that write them, and the record of a run."""
