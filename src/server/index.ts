export { createServer, type Server } from './app.js';
export type { Principal } from './auth.js';
export type { LogLevel, ServerLimits, ServerOptions } from './options.js';
export type { ServerPlugin, ServerServices } from './plugins.js';
export type { OperationsStatus } from './status.js';
export type { AppRouter } from './trpc/router.js';
