"""Where the code of users runs: WebAssembly, in processes that own nothing and are killed when they take too long."""
