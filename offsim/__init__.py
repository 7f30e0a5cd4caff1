"""Predicts step time and memory of diffusion transformers with weights offloaded to host memory.

    import offsim

    run = offsim.predict("wan2.2-4xh100-pcie-layerwise")     # a name, a .toml file, or a mapping
    run.metrics["total_s"], run.frame(), run.to_dict()

    offsim.run_sweep("my-grid.toml").frame()
    offsim.find_best("flux.1-dev-rtx4090-layerwise", vram_gib=16)

Nothing else is imported before one of these names is asked for.
"""

TYPE_CHECKING = False  # Not typing's: importing that takes longer than all that happens before signals are answered.
if TYPE_CHECKING:
    from offsim.api import BestResult, RunResult, SweepResult, run_sweep
    from offsim.api import find_best_policies as find_best
    from offsim.api import predict_scenario as predict
    from offsim.scenario.faults import ScenarioError

    __version__: str

__all__ = [
    "BestResult",
    "RunResult",
    "ScenarioError",
    "SweepResult",
    "__version__",
    "find_best",
    "predict",
    "run_sweep",
]
_PLACES = {
    "BestResult": "offsim.api:BestResult",
    "RunResult": "offsim.api:RunResult",
    "ScenarioError": "offsim.scenario.scenario:ScenarioError",
    "SweepResult": "offsim.api:SweepResult",
    "find_best": "offsim.api:find_best_policies",
    "predict": "offsim.api:predict_scenario",
    "run_sweep": "offsim.api:run_sweep",
}
"""Where each public name is defined."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from offsim.version import offsim_version

            return offsim_version()
        if name not in _PLACES:
            raise AttributeError(f"module 'offsim' has no attribute {name!r}")
        from importlib import import_module

        module, _, defined = _PLACES[name].partition(":")
        found = getattr(import_module(module), defined)
        # What help and messages say: the name by which it is asked for.
        found.__module__, found.__name__, found.__qualname__ = __name__, name, name
        return found

    def __dir__() -> list[str]:
        return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
