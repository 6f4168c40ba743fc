"""SLAC: a stochastic latent model of what is seen and felt, and soft actor-critic on its latent.

Source: Lee, Nagabandi, Abbeel and Levine 2020 (arXiv 1907.00953), code alexlee-gk/slac at 14a366e; with the encoder of
Visuo-Tactile Transformers (CoRL 2022).
"""
