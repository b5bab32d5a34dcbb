"""How each kind of stage becomes a task with its batches."""
