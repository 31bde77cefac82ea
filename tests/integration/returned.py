"""A Hydra callback that notes what each job hands to the sweeper."""

from pathlib import Path

from hydra.experimental.callback import Callback


class Returned(Callback):
    def on_job_end(self, config, job_return, **kwargs):
        Path(config.hydra.sweep.dir, f"returned-{config.hydra.job.num}").write_text(str(job_return.return_value))
