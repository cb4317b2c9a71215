"""Proof that an export answers like its source: images, references, parity, gates, travelling proofs."""
