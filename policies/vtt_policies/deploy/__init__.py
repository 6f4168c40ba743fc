"""Policies on a robot computer: NumPy, and torch or ONNX Runtime; no simulator, no Gymnasium, no training library.

from vtt_policies.deploy import load

policy = load("bundle/")
policy.reset()
action = policy.act(observation)
"""

from vtt_policies.deploy.contract import check_arrays
from vtt_policies.deploy.engines import Backend
from vtt_policies.deploy.limits import Limits, Verdict, limit
from vtt_policies.deploy.runtime import DeployedPolicy, load

__all__ = ["Backend", "DeployedPolicy", "Limits", "Verdict", "check_arrays", "limit", "load"]
