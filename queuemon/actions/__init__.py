"""What an operator can do: `plan` reads and decides, `apply` acts. Button, command and runbook share this one path."""

from queuemon.actions.applying import action, actions, apply, pauses, resume_action
from queuemon.actions.planning import plan
from queuemon.actions.resuming import begun, outcomes, stop_action

__all__ = ["action", "actions", "apply", "begun", "outcomes", "pauses", "plan", "resume_action", "stop_action"]
