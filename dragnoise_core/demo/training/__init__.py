"""How the demo model was trained: its pictures are drawn, nothing is downloaded."""
