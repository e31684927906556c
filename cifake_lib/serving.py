"""Kernels of the served dashboard: no visitor gets one that is dead or about to be ended.

Voilà keeps kernels ready that have run the notebook, and Jupyter's server ends those that nobody
has used for a while. `voila.json` names the class below, which stands between the two.
"""

import asyncio
from datetime import UTC, datetime

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

REFILL = 30  # seconds; a kernel that dies at once must not be started over and over


class VisitorKernels(AsyncMappingKernelManager):
    """Starts and ends the kernels; what Voilà makes of it has the pool of those that wait."""

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a kernel that nobody has used for long, unless its visitor has only just come.

        Voilà asks about none that waits. One that has left the pool may be hours old, and its page
        takes seconds to connect: its time counts from now.
        """
        kernel = self._kernels[kernel_id]
        if not getattr(kernel, "handed_out", False):
            kernel.handed_out, kernel.last_activity = True, datetime.now(UTC)
        await super().cull_kernel_if_idle(kernel_id)

    def _handle_kernel_died(self, kernel_id: str) -> None:
        """Take a dead kernel out of the pool too, which would give it to the next visitor."""
        self.log.warning("Kernel %s died.", kernel_id)
        self._ending = asyncio.create_task(self.shutdown_kernel(kernel_id, now=True))
        if path := getattr(self, "notebook_path", None):  # There is a pool.
            asyncio.get_running_loop().call_later(REFILL, self.fill_if_needed, 0, path)
