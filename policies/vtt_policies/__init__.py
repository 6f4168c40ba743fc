"""Policies for visuo-tactile tasks: imitation, distillation and the evaluation of what they learned.

Policies see arrays, never devices: they meet environments in a Gymnasium id and the flat observation keys.
"""
