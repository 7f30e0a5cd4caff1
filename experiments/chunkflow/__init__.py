"""ChunkFlow (arXiv 2605.11335): its figures predicted from its node, and where its gate pays."""
