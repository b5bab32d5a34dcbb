"""One loop, and one small task for each noun. Inference never imports this room."""
