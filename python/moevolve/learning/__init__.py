"""Training stages: distillation of confirmed answers, reinforcement by policy losses."""
