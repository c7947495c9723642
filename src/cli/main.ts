#!/usr/bin/env node
import { runCli } from './program.js';

const status = await runCli(process.argv.slice(2));
process.exitCode = status;
// Interrupted work may hold connections that end only with their statements.
if (status > 128) process.exit();
