import type { FastifyReply, FastifyRequest } from 'fastify';
import { LedgerError } from '../../errors.js';

interface Body {
  /** Whose it is: what comes of one caller is a part of the whole. */
  caller: string;
  bytes: number;
  /** Of these, while it is not whole; then 0. */
  comingBytes: number;
  /** A handler has it, and says when it is done with it. */
  isClaimed: boolean;
  isOver: boolean;
}

/** What of the whole may be bodies of one caller that are still coming: who sends slowly locks nobody out. */
const COMING_SHARE = 0.5;
/** Joined at a time: each piece takes hundreds of bytes beside its own, and may have one. */
const PIECES = 1_024;

/**
 * Bodies of requests in flight, all together no more than a limit: counted as they come, for a client may
 * take an hour for the last byte of each.
 */
export class Bodies {
  readonly #limitBytes: number;
  readonly #bodies = new WeakMap<FastifyRequest, Body>();
  /** Bytes of those that are not whole, by caller. */
  readonly #coming = new Map<string, number>();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** Before it is read. It is over with the answer, where no handler has it. */
  open(request: FastifyRequest, reply: FastifyReply, caller: string): void {
    const body: Body = { caller, bytes: 0, comingBytes: 0, isClaimed: false, isOver: false };
    this.#bodies.set(request, body);
    reply.raw.once('close', () => {
      if (!body.isClaimed) this.#end(body);
    });
  }

  /** @returns to be called when nobody needs it any more */
  claim(request: FastifyRequest): () => void {
    const body = this.#bodies.get(request);
    if (body === undefined) return () => {};
    body.isClaimed = true;
    return () => this.#end(body);
  }

  /**
   * The whole of it. Of who is answered before it has come nothing more is kept, and it never resolves.
   * @throws LedgerError `unavailable`; an error with status 413, or 400 of a client that left
   */
  read(
    request: FastifyRequest,
    payload: NodeJS.ReadableStream,
    mostBytes: number,
  ): Promise<Buffer> {
    const body = this.#bodies.get(request);
    const length = Number(request.headers['content-length'] ?? 0);
    return new Promise((resolve, reject) => {
      const joined: Buffer[] = [];
      const pieces: Buffer[] = [];
      const stop = () => {
        payload.off('data', take).off('end', end).off('error', leave);
      };
      const fail = (error: Error) => {
        stop();
        reject(error);
      };
      // Nobody's failure but the client's.
      const leave = (error: Error) => fail(Object.assign(error, { statusCode: 400 }));
      const end = () => {
        stop();
        if (body !== undefined) this.#come(body, -body.comingBytes);
        resolve(Buffer.concat([...joined, ...pieces]));
      };
      const take = (chunk: Buffer) => {
        if (body === undefined || body.isOver) stop();
        else if (body.bytes + chunk.length > mostBytes) fail(tooLarge());
        else if (!this.#add(body, chunk.length)) fail(full());
        else if (pieces.push(chunk) === PIECES) joined.push(Buffer.concat(pieces.splice(0)));
      };
      if (length > mostBytes) reject(tooLarge());
      else payload.on('data', take).on('end', end).on('error', leave);
    });
  }

  #add(body: Body, bytes: number): boolean {
    const coming = (this.#coming.get(body.caller) ?? 0) + bytes;
    if (this.#bytes + bytes > this.#limitBytes) return false;
    if (coming > this.#limitBytes * COMING_SHARE) return false;
    this.#bytes += bytes;
    body.bytes += bytes;
    this.#come(body, bytes);
    return true;
  }

  #come(body: Body, bytes: number): void {
    body.comingBytes += bytes;
    const coming = (this.#coming.get(body.caller) ?? 0) + bytes;
    if (coming === 0) this.#coming.delete(body.caller);
    else this.#coming.set(body.caller, coming);
  }

  #end(body: Body): void {
    if (body.isOver) return;
    body.isOver = true;
    this.#come(body, -body.comingBytes);
    this.#bytes -= body.bytes;
  }
}

function tooLarge(): Error {
  return Object.assign(new Error('the body is too large'), { statusCode: 413 });
}

function full(): LedgerError {
  return new LedgerError('unavailable', 'the service holds as many requests as it can');
}
