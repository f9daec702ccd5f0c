"""What an operator can do: `plan` reads and decides, `apply` acts. Button, command and runbook share this one path."""

from queuemon.actions.applying import action, actions, apply, pauses
from queuemon.actions.planning import plan

__all__ = ["action", "actions", "apply", "pauses", "plan"]
