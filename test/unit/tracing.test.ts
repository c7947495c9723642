import { type ContextManager, context, ROOT_CONTEXT, trace } from '@opentelemetry/api';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { startTask } from '../../src/background.js';
import { LedgerError } from '../../src/errors.js';
import { inSpan, readTraceParent, Tracing, toTraceParent } from '../../src/tracing.js';

const exporter = new InMemorySpanExporter();
const tracer = new BasicTracerProvider({
  spanProcessors: [new SimpleSpanProcessor(exporter)],
}).getTracer('test');
const tracing = new Tracing(tracer);
const ended = () => exporter.getFinishedSpans();

afterEach(() => {
  exporter.reset();
  vi.restoreAllMocks();
});

describe('a traceparent', () => {
  const ID = '0af7651916cd43dd8448eb211c80319c';
  const SPAN = 'b7ad6b7169203331';

  it('is the parent that it names', () => {
    const parent = readTraceParent(`00-${ID}-${SPAN}-01`, 'rojo=1');
    expect(parent?.spanContext()).toMatchObject({
      traceId: ID,
      spanId: SPAN,
      traceFlags: 1,
      isRemote: true,
    });
    expect(parent?.spanContext().traceState?.get('rojo')).toBe('1');
  });

  it('of a later version is read as far as this one knows it', () => {
    expect(readTraceParent(`cc-${ID}-${SPAN}-01-what-the-future-holds`)).not.toBeNull();
  });

  it.each([
    undefined,
    '',
    ['a', 'b'],
    `ff-${ID}-${SPAN}-01`,
    `00-${ID}-${SPAN}-01-more`,
    `00-${'0'.repeat(32)}-${SPAN}-01`,
    `00-${ID}-${'0'.repeat(16)}-01`,
    `00-${ID.toUpperCase()}-${SPAN}-01`,
    `00-${ID}-${SPAN}`,
  ])('that is none is no parent: %j', (header) => {
    expect(readTraceParent(header)).toBeNull();
  });

  it('for the next hop names the span and no more', () => {
    const parent = readTraceParent(`00-${ID}-${SPAN}-01`, 'rojo=1');
    const span = tracing.start('ours', { parent });
    const { spanId } = span.spanContext();
    expect(toTraceParent(span)).toBe(`00-${ID}-${spanId}-01`);
    expect(spanId).not.toBe(SPAN);
  });
});

describe('a span', () => {
  it('that fails says why, and never in the words of others', async () => {
    const failing = (error: Error) =>
      inSpan(tracing, 'work', {}, () => Promise.reject(error)).catch(() => {});
    await failing(new LedgerError('unavailable', 'the database is away'));
    await failing(Object.assign(new Error('Key (id)=(ada@example.com)'), { code: '23505' }));
    await failing(new TypeError('of ada@example.com'));
    expect(
      ended().map(({ attributes, status }) => [attributes['error.type'], status.message]),
    ).toEqual([
      ['unavailable', 'the database is away'],
      ['23505', undefined],
      ['TypeError', undefined],
    ]);
    const told = ended().map(({ events, attributes, status }) => ({ events, attributes, status }));
    expect(JSON.stringify(told)).not.toContain('ada@example.com');
  });

  it('is none where nobody wants any', async () => {
    expect(await inSpan(null, 'work', {}, async (span) => span)).toBeNull();
    expect(ended()).toEqual([]);
  });
});

describe('links from a statement', () => {
  it('are to the calls that wait for it, and go with them', async () => {
    const call = tracing.start('call');
    const events = [{ id: 'a' }, { id: 'b' }];
    await tracing.linked(['A', null], call, async () => {
      expect(tracing.linksOf(events)).toEqual([{ context: call.spanContext() }]);
    });
    expect(tracing.linksOf(events)).toEqual([]);
  });

  it('are none to a call that is not sampled', async () => {
    const context = { traceId: '1'.repeat(32), spanId: '1'.repeat(16), traceFlags: 0 };
    const call = trace.wrapSpanContext(context);
    await tracing.linked(['a'], call, async () => {
      expect(tracing.linksOf([{ id: 'a' }])).toEqual([]);
    });
  });

  it('are at most 32', async () => {
    const ids = Array.from({ length: 100 }, (_, index) => `event-${index}`);
    await tracing.linked(ids, tracing.start('call'), async () => {
      expect(tracing.linksOf(ids.map((id) => ({ id })))).toHaveLength(32);
    });
  });

  it('may be to the span of a host that is active', () => {
    expect(tracing.active()).toBeNull();
    const hosts = tracing.start("the host's");
    const active = trace.setSpan(ROOT_CONTEXT, hosts);
    const manager: ContextManager = {
      active: () => active,
      with: (_, run, self, ...args) => run.call(self as never, ...args),
      bind: (_, target) => target,
      enable: () => manager,
      disable: () => manager,
    };
    context.setGlobalContextManager(manager);
    try {
      expect(tracing.active()).toBe(hosts);
      // What is asked of the background is no part of what the host does.
      const ours = tracing.start('ours').spanContext();
      expect(ours.traceId).not.toBe(hosts.spanContext().traceId);
    } finally {
      context.disable();
    }
  });
});

describe('a round in the background', () => {
  it('has a span when it failed or did something, and none when it did nothing', async () => {
    let nowMs = performance.now();
    vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
    const rounds = [
      async () => {},
      async () => {
        nowMs += 2;
      },
      async () => {
        throw new LedgerError('unavailable', 'the database is away');
      },
    ];
    let round = 0;
    const done = new Promise<void>((resolve) => {
      const task = startTask({
        name: 'tidy',
        intervalMs: 1,
        tracing,
        run: async () => {
          const work = rounds[round++];
          if (work === undefined) void task.stop().then(resolve);
          else await work();
        },
        onError: () => {},
      });
    });
    await done;
    const spans = ended().filter(({ attributes }) => attributes['microdollar.task'] === 'tidy');
    expect(spans.map(({ name, attributes }) => [name, attributes['error.type']])).toEqual([
      ['microdollar.background tidy', undefined],
      ['microdollar.background tidy', 'unavailable'],
    ]);
  });
});
