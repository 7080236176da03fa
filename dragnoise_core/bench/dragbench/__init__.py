"""`dragnoise bench dragbench`: DragBench (Shi et al., DragDiffusion, CVPR 2024), run and evaluated."""
