# MuJoCo's compiled modules carry no types; without these stubs every name of them is an error to pyright.
from typing import Any

def __getattr__(name: str) -> Any: ...
