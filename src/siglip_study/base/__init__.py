"""What every floor stands on: errors, files that appear whole, jobs, seeds."""
