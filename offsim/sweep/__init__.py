"""Many scenarios: grids, their parallel execution, storage and the answer drawn from them."""
