"""Other papers' methods, written from their formulas, for the comparison."""
