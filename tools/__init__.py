"""What a study never runs: the demo's models, simulations of the ranking, writers of docs."""
