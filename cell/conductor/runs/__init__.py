"""The executor of runs: begin one, lease it, take its steps, apply what hosts answer, checkpoint it."""
