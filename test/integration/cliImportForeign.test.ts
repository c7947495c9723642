import { beforeAll, describe, expect, it } from 'vitest';
import { useCli } from './cliHarness.js';

/** Exports of other products, in their own columns; the values are made up. */

const cli = useCli();
const ORGANIZATION = '0f0e0d0c-0b0a-4908-8706-050403020100';
const KEY = '88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b';

beforeAll(async () => {
  await cli.database.pool.query(
    `insert into kilocode_users (id) values ('ada'), ('bob'), ('carl')`,
  );
  await cli.database.pool.query(`insert into organizations (id, name) values ($1, 'acme')`, [
    ORGANIZATION,
  ]);
});

async function usageWhere(condition: string) {
  const { rows } = await cli.database.pool.query(
    `select m.kilo_user_id, m.organization_id, m.cost::int, m.input_tokens::int,
       m.output_tokens::int, m.cache_hit_tokens::int, m.cache_write_tokens::int, m.provider,
       m.model, m.requested_model, m.inference_provider, m.project_id, m.api_key_id, m.has_error,
       m.created_at, d.end_user, d.session_id, d.tags, d.latency, d.generation_time, d.upstream_id,
       d.status_code, d.market_cost::int, d.is_byok, d.reasoning_tokens, f.finish_reason
     from microdollar_usage as m
     join microdollar_usage_metadata as d on d.id = m.id
     left join finish_reason as f on f.finish_reason_id = d.finish_reason_id
     where ${condition}
     order by m.created_at, m.cost`,
  );
  return rows;
}

/** As `select row_to_json(l) from "LiteLLM_SpendLogs" as l` prints it. */
const SPEND_LOG = {
  request_id: 'chatcmpl-1',
  call_type: 'acompletion',
  api_key: KEY,
  spend: 0.0012345,
  total_tokens: 1300,
  prompt_tokens: 1200,
  completion_tokens: 100,
  startTime: '2026-11-20T23:59:59.5',
  endTime: '2026-11-21T00:00:02.25',
  request_duration_ms: 2750,
  completionStartTime: '2026-11-21T00:00:00',
  model: 'claude-sonnet-4-5-20250929',
  model_id: 'd9f1',
  model_group: 'sonnet',
  custom_llm_provider: 'anthropic',
  api_base: 'https://api.anthropic.com',
  user: 'ada',
  metadata: {
    user_api_key_alias: 'ada laptop',
    usage_object: { cache_read_input_tokens: 1000, cache_creation_input_tokens: 50 },
  },
  cache_hit: 'False',
  cache_key: 'Cache OFF',
  request_tags: ['User-Agent: curl', 'prod'],
  team_id: 'team-core',
  organization_id: null,
  end_user: 'customer-7',
  requester_ip_address: '',
  messages: {},
  response: {},
  session_id: 'session-1',
  status: 'success',
  mcp_namespaced_tool_name: null,
  agent_id: null,
  proxy_server_request: {},
};

describe("LiteLLM's spend logs", () => {
  const jsonl = (...rows: object[]) => rows.map((row) => JSON.stringify(row)).join('\n');

  it('become events with attribution; what is left out is told', async () => {
    const rows = [
      SPEND_LOG,
      {
        ...SPEND_LOG,
        request_id: 'chatcmpl-2',
        spend: 0,
        status: 'failure',
        organization_id: ORGANIZATION,
        metadata: JSON.stringify({ error_information: { error_code: '429' } }),
        prompt_tokens: 0,
        completion_tokens: 0,
        total_tokens: 0,
        startTime: '2026-11-21T01:00:00Z',
        colour: 'red',
      },
      {
        ...SPEND_LOG,
        request_id: 'chatcmpl-3',
        spend: 0,
        model: 'own',
        request_tags: ['x'.repeat(65)],
      },
      { ...SPEND_LOG, request_id: 'chatcmpl-4', spend: 4e-7 },
    ];
    const path = await cli.file('spend.jsonl', jsonl(...rows));
    const run = await cli.ask('import', path, '--format', 'litellm');
    expect(run.status).toBe(0);
    expect(run.document).toMatchObject({
      recorded: 4,
      recorded_cost_microdollars: 1_235,
      mapping: {
        unknown_columns: ['colour'],
        unused_columns: expect.arrayContaining(['messages', 'proxy_server_request']),
        source_cost_usd: '0.0012349',
        rounded_to_zero: 1,
        without_cost: [{ model: 'own', rows: 1 }],
        keys: [{ name: 'ada laptop', rows: 4 }],
        left_out: [{ what: 'tags of more than 64 characters', rows: 1 }],
      },
    });
    const [key] = run.document.mapping.keys;
    const usage = await usageWhere(`d.upstream_id in ('chatcmpl-1', 'chatcmpl-2')`);
    expect(usage).toMatchObject([
      {
        kilo_user_id: 'ada',
        organization_id: null,
        cost: 1_235,
        input_tokens: 1_200,
        output_tokens: 100,
        cache_hit_tokens: 1_000,
        cache_write_tokens: 50,
        provider: 'anthropic',
        model: 'claude-sonnet-4-5-20250929',
        requested_model: 'sonnet',
        project_id: 'team-core',
        api_key_id: key.api_key_id,
        has_error: false,
        created_at: new Date('2026-11-20T23:59:59.5Z'),
        end_user: 'customer-7',
        session_id: 'session-1',
        tags: ['User-Agent: curl', 'prod'],
        latency: 500,
        generation_time: 2_250,
      },
      { cost: 0, has_error: true, status_code: 429, organization_id: ORGANIZATION },
    ]);
    const text = await cli.run('import', path, '--format', 'litellm', '--dry-run');
    expect(text.stdout).toContain('unknown columns, not read: colour');
    expect(text.stdout).toContain('tokens and a cost of 0 in the file, by model: own (1)');
    expect(text.stdout).not.toContain(KEY);
  });

  it('of responses that were fetched again are paid once', async () => {
    const made = { ...SPEND_LOG, request_id: 'resp_made', call_type: 'aresponses', spend: 0.0023 };
    const calls = ['aget_responses', 'aget_responses', 'get_responses', 'alist_input_items'];
    const fetched = calls.map((call_type, at) => ({
      ...made,
      request_id: `resp_${at}`,
      call_type,
      startTime: `2026-11-21T0${at}:00:00`,
    }));
    const path = await cli.file('responses.jsonl', jsonl(made, ...fetched));
    const run = await cli.ask('import', path, '--format', 'litellm');
    expect(run.status).toBe(0);
    expect(run.document).toMatchObject({
      recorded: 1,
      rejected: 0,
      recorded_cost_microdollars: 2_300,
      mapping: {
        source_cost_usd: '0.0023',
        left_out: [{ what: expect.stringContaining('fetched again'), rows: 4 }],
      },
    });
  });

  it('have the reads of a cache in the prompt, where the total says that the writes are not', async () => {
    const row = {
      ...SPEND_LOG,
      request_id: 'chatcmpl-writes-beside',
      prompt_tokens: 30_946,
      completion_tokens: 102,
      total_tokens: 31_048,
      metadata: {
        usage_object: { cache_read_input_tokens: 30_940, cache_creation_input_tokens: 460 },
      },
    };
    const path = await cli.file('beside.jsonl', jsonl(row));
    expect((await cli.ask('import', path, '--format', 'litellm')).document.recorded).toBe(1);
    expect(await usageWhere(`d.upstream_id = 'chatcmpl-writes-beside'`)).toMatchObject([
      { input_tokens: 31_406, cache_hit_tokens: 30_940, cache_write_tokens: 460 },
    ]);
  });

  it('are the same rows as CSV, as psql and as spreadsheets write them', async () => {
    const cell = (value: unknown) => {
      const text = value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : value;
      return /[",]/.test(String(text)) ? `"${String(text).replaceAll('"', '""')}"` : String(text);
    };
    const csv = (row: Record<string, unknown>) =>
      [Object.keys(row), Object.values(row).map(cell)].map((cells) => cells.join(',')).join('\r\n');
    const asPsql = { ...SPEND_LOG, startTime: '2026-11-20 23:59:59.5', spend: '0.0012345000' };
    const sorted = Object.fromEntries(Object.entries(asPsql).sort());
    for (const [name, row] of [
      ['psql.csv', asPsql],
      ['sorted.csv', { ...sorted, startTime: '2026-11-20 23:59:59.500+00' }],
    ] as const) {
      const path = await cli.file(name, csv(row));
      const { status, document } = await cli.ask('import', path, '--format', 'litellm');
      expect([status, document.recorded, document.duplicates]).toEqual([0, 0, 1]);
    }
  });

  it('of users that are not there say what makes them', async () => {
    const path = await cli.file(
      'who.jsonl',
      jsonl({ ...SPEND_LOG, request_id: 'who', user: 'who' }),
    );
    const run = await cli.run('import', path, '--format', 'litellm');
    expect(run.status).toBe(1);
    expect(run.stdout).toMatch(/unknown_user/);
    expect(run.stdout).toContain('with --create-accounts the import creates');
  });

  it('never cost nothing because the cost cannot be read, and keep their good rows', async () => {
    const { spend: _, ...noSpend } = SPEND_LOG;
    const bad = [
      noSpend,
      { ...SPEND_LOG, spend: null },
      { ...SPEND_LOG, spend: '' },
      { ...SPEND_LOG, spend: 'NaN' },
      { ...SPEND_LOG, spend: '0,10' },
      { ...SPEND_LOG, spend: {} },
      { ...SPEND_LOG, prompt_tokens: -1 },
      { ...SPEND_LOG, startTime: '11/20/2026 10:00' },
      { ...SPEND_LOG, user: '' },
      { ...SPEND_LOG, user: 'nobody' },
      { ...SPEND_LOG, spend: 0.5 },
    ].map((row, at) => ({ ...row, request_id: at === 10 ? 'chatcmpl-1' : `bad-${at}` }));
    const good = { ...SPEND_LOG, request_id: 'good', user: 'bob', spend: '1e-3' };
    const path = await cli.file('bad.jsonl', `${jsonl(...bad)}\n{"spend\n${jsonl(good)}`);
    const { status, document } = await cli.ask('import', path, '--format', 'litellm');
    expect(status).toBe(1);
    expect(document).toMatchObject({
      recorded: 1,
      recorded_cost_microdollars: 1_000,
      rejected: 12,
    });
    const told = document.rejections.map(({ reason }: { reason: string }) => reason);
    expect(told).toMatchObject([
      expect.stringMatching(/^spend is empty/),
      expect.stringMatching(/^spend is empty/),
      expect.stringMatching(/^spend is empty/),
      expect.stringMatching(/^spend is not an amount.*NaN/),
      expect.stringMatching(/^spend is not an amount.*0,10/),
      expect.stringMatching(/^spend is not an amount/),
      expect.stringMatching(/^prompt_tokens is not a whole number/),
      expect.stringMatching(/^startTime is not a time/),
      expect.stringMatching(/^user is empty.*--user/),
      expect.stringMatching(/kilo_user_id names no user/),
      expect.stringMatching(/^the row was recorded before with another cost.*adjust/),
      'is not JSON',
    ]);
  });

  it('are whose the command says, and create accounts when told to', async () => {
    const organization = '0f0e0d0c-0b0a-4908-8706-0504030201ff';
    const rows = [
      { ...SPEND_LOG, request_id: 'payer-1', user: null },
      { ...SPEND_LOG, request_id: 'payer-2', user: 'new-user' },
    ];
    const path = await cli.file('payer.jsonl', jsonl(...rows));
    const options = ['--format', 'litellm', '--user', 'bob', '--org', organization];
    const refused = await cli.ask('import', path, ...options, '--dry-run');
    expect(refused.document).toMatchObject({ recorded: 0, rejected: 2 });
    const dry = await cli.ask('import', path, ...options, '--create-accounts', '--dry-run');
    expect(dry.document).toMatchObject({ recorded: 2, rejected: 0 });
    const run = await cli.ask('import', path, ...options, '--create-accounts');
    expect(run.document).toMatchObject({ recorded: 2, rejected: 0 });
    const usage = await usageWhere(`m.organization_id = '${organization}'`);
    expect(usage.map((row) => row.kilo_user_id).sort()).toEqual(['bob', 'new-user']);
  });

  it.each([
    ['no-header.csv', 'request_id,model\na,b\n', /not the header of LiteLLM_SpendLogs.*spend/],
    ['twice.csv', 'spend,startTime,start_time\n', /"start_time" twice/],
    ['nothing.csv', '', /is empty/],
  ])('reject %s at line 1', async (name, content, reason) => {
    const path = await cli.file(name, content);
    const { status, document } = await cli.ask('import', path, '--format', 'litellm');
    expect(status).toBe(1);
    expect(document.rejections).toMatchObject([{ line: 1, reason: expect.stringMatching(reason) }]);
  });
});

describe("OpenRouter's activity", () => {
  const HEADER =
    'generation_id,created_at,cost_total,cost_web_search,cost_cache,cost_file_processing,' +
    'byok_usage_inference,tokens_prompt,tokens_completion,tokens_reasoning,tokens_cached,' +
    'model_permaslug,provider_name,variant,cancelled,streamed,user,finish_reason_raw,' +
    'finish_reason_normalized,generation_time_ms,time_to_first_token_ms,api_key_disabled,' +
    'api_key_name,app_name';
  const ROWS = [
    'gen-1,2026-11-20 03:46:57.713,0.0123,0,-0.001,0,0,10389,137,20,4000,openai/gpt-oss-120b,' +
      'Cerebras,standard,false,true,customer-7,stop,stop,900,210,false,laptop,Kilo Code',
    'gen-2,2026-11-20 04:00:00,0,0,0,0,0.02,10,1,0,0,openai/gpt-4o,OpenAI,,false,true,,,stop,1,1,f,laptop,',
    'gen-3,2026-11-20 05:00:00,0,0,0,0,0,10,1,0,0,openai/gpt-oss-20b,X,free,false,true,,,error,1,1,f,,',
  ];
  const importRows = async (name: string, rows: readonly string[], ...options: string[]) => {
    const path = await cli.file(name, rows.join('\n'));
    return cli.ask('import', path, '--format', 'openrouter', '--user', 'carl', ...options);
  };

  it('becomes events with attribution, once', async () => {
    const run = await importRows('generations.csv', [HEADER, ...ROWS]);
    expect(run).toMatchObject({
      status: 0,
      document: {
        recorded: 3,
        recorded_cost_microdollars: 12_300,
        mapping: { unknown_columns: [], without_cost: [], keys: [{ name: 'laptop', rows: 2 }] },
      },
    });
    expect(await usageWhere(`m.kilo_user_id = 'carl'`)).toMatchObject([
      {
        cost: 12_300,
        input_tokens: 10_389,
        output_tokens: 137,
        cache_hit_tokens: 4_000,
        reasoning_tokens: 20,
        provider: 'openrouter',
        inference_provider: 'Cerebras',
        model: 'openai/gpt-oss-120b',
        project_id: 'Kilo Code',
        api_key_id: run.document.mapping.keys[0].api_key_id,
        end_user: 'customer-7',
        finish_reason: 'stop',
        latency: 210,
        generation_time: 900,
        created_at: new Date('2026-11-20T03:46:57.713Z'),
      },
      { cost: 0, is_byok: true, market_cost: 20_000 },
      { cost: 0, has_error: true, model: 'openai/gpt-oss-20b:free' },
    ]);
    const grown = ROWS[0]?.replace('gen-1', 'gen-4').replace('0.0123', '') ?? '';
    const again = await importRows('grown.csv', [HEADER, ...ROWS, grown]);
    expect(again).toMatchObject({
      status: 1,
      document: { recorded: 0, duplicates: 3, rejections: [{ line: 5 }] },
    });
    expect(again.document.rejections[0].reason).toMatch(/^cost_total is empty/);
  });

  it('by day is known by day, and a sum that has changed since is refused', async () => {
    const header =
      'date,model,model_permaslug,endpoint_id,provider_name,usage,requests,prompt_tokens';
    const day = (date: string, usage: string) =>
      `${date},gpt-4o,gpt-4o-2024,e1,OpenAI,${usage},5,50`;
    const first = await importRows('days-1.csv', [
      header,
      day('2026-11-18', '0.5'),
      day('2026-11-19', '0.1'),
    ]);
    expect(first.document).toMatchObject({ recorded: 2, recorded_cost_microdollars: 600_000 });
    expect(first.document.mapping.left_out).toMatchObject([{ rows: 2 }]);
    const second = await importRows('days-2.csv', [
      header,
      day('2026-11-20', '0.25'),
      day('2026-11-19 00:00:00', '0.3'),
      day('2026-11-18', '0.50'),
    ]);
    expect(second).toMatchObject({
      status: 1,
      document: {
        recorded: 1,
        duplicates: 1,
        rejections: [{ line: 3, code: 'idempotency_conflict' }],
      },
    });
  });
});
