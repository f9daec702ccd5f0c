"""The reference write and read path of the contract: producer, relay, worker, and the supervisor that runs workers."""
