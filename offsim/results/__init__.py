"""What it means: step table, memory, stall ledger, trace, report."""
