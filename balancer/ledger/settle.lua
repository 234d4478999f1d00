-- settle: completions take effect, each at most once, and are acknowledged and deleted in the same call.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4-6 back-off: base_us, cap_us, draw | 7 learning (0, 1) | per entry: id, kind (event, bad), then
--      event: agent, task, attempt, nonce, status, result, took_ms | bad: reason, raw fields, '', '', '', '', ''
-- Returns per entry: outcome; then the soonest retry in us (0: none), and whether parents wait in release (0, 1)
-- Outcomes ok, retry, dead, requeued, cancelled, duplicate, stale, unknown, bad
-- Keeps   a unit is freed once, by the removal of its own lease, and a try teaches with it; acknowledged only together with its effect
-- Uses    cells, effort, agent, waiting, task, tries, classes, gate, steps, pace, save_cells, learn
read_backoff(4)
local LEARNS = int(ARGV[7], 0, 1, 'learning') == 1
local ENTRIES, STATUSES = (#ARGV - 7) / 9, { completed = true, failed = true, rejected = true, released = true, cancelled = true }
if ENTRIES < 1 or ENTRIES > 100 or ENTRIES % 1 ~= 0 then bad('entries: from 1 to 100, nine arguments each') end
for i = 8, #ARGV, 9 do
  local kind, status = ARGV[i + 1], ARGV[i + 6]
  if not string.match(ARGV[i], '^%d+%-%d+$') then bad('entry: ' .. ARGV[i] .. ' is not a stream id') end
  if kind ~= 'bad' and kind ~= 'event' then bad('kind: ' .. kind) end
  if kind == 'event' then
    if not STATUSES[status] then bad('status: ' .. status) end
    if #ARGV[i + 7] > 8192 then bad('result: ' .. #ARGV[i + 7] .. ' bytes; at most 8192') end
    int(ARGV[i + 8], 0, 9007199254740991, 'took_ms')
  end
end
-- What has to be read of a task whose try completed: more of it where it teaches.
local FEW_FIELDS = LEARNS and 10 or 7
local ids, reply = {}, {}

local function judge(t, agent_id, attempt, nonce)
  if not t then return 'unknown' end
  if t.nonce ~= nonce or t.agent ~= agent_id or tostring(t.attempt) ~= attempt then return 'stale' end
  if t.state == 'assigned' then return 'ok' end
  local close = t.close or redis.call('HGET', k_task(t.id), 'close')
  return close == 'revoked' and 'stale' or 'duplicate'
end

local function apply(t, status, result, took_ms)
  local teaches = LEARNS and (status == 'completed' or status == 'failed')
  local is_paced = teaches and (ENTRIES <= 32 or shows_pace(t.nonce))
  local a = is_paced and load_paced(t.agent, t.category) or load_agent(t.agent)
  -- Of one that is gated each try counts: it may be the only one.
  if teaches and not is_paced and GATES[a.class] then is_paced, a = true, load_paced(t.agent, t.category) end
  if not close_lease(t, a, status) then return 'stale' end
  if teaches and not t.cancel then note_lesson(t, a, status == 'completed' and tonumber(took_ms) or nil, is_paced) end
  if result ~= '' then
    redis.call('SET', k_result(t.id), result)
  elseif t.attempt > 1 then
    redis.call('DEL', k_result(t.id)) -- an earlier try's, not this one's
  end
  if status == 'completed' and not t.cancel then
    finish(t, 'completed', '', took_ms)
    event('completed', t.id, t.agent, 'ok')
    return 'ok'
  end
  if status ~= 'completed' then remember_try(t, status) end
  if t.cancel then return end_cancelled(t, took_ms) end
  if status ~= 'failed' then return give_back_task(t, status) end
  local outcome = fail_try(t, 'failed')
  event('failed', t.id, t.agent, outcome)
  return outcome
end

local function take_effect(i)
  local t = load_task(ARGV[i + 3], ARGV[i + 6] == 'completed' and FEW_FIELDS or nil)
  local outcome = judge(t, ARGV[i + 2], ARGV[i + 4], ARGV[i + 5])
  if outcome == 'ok' then outcome = apply(t, ARGV[i + 6], ARGV[i + 7], ARGV[i + 8]) end
  return outcome
end

local function set_aside(entry, reason, raw)
  -- The removal goes first: after it the rest runs even when Redis is out of memory.
  redis.call('XACK', K.completions, 'balancer', entry)
  redis.call('XADD', K.rejected, 'MAXLEN', '~', '10000', '*', 'stream', 'completions', 'entry', entry, 'reason', reason, 'raw', raw)
  return 'bad'
end

for i = 8, #ARGV, 9 do
  local entry, outcome = ARGV[i], nil
  if ARGV[i + 1] == 'bad' then
    outcome = set_aside(entry, ARGV[i + 2], ARGV[i + 3])
  else
    -- A key of the wrong type must not wedge the rest, nor keep what was applied before it from being counted.
    local fine, answer = pcall(take_effect, i)
    outcome = fine and answer or set_aside(entry, error_text(answer), ARGV[i + 3])
  end
  ids[#ids + 1] = entry
  reply[#reply + 1] = outcome
end
redis.call('XACK', K.completions, 'balancer', unpack(ids))
redis.call('XDEL', K.completions, unpack(ids))
for _, outcome in ipairs(reply) do
  if outcome == 'stale' or outcome == 'duplicate' or outcome == 'unknown' or outcome == 'bad' then
    redis.call('HINCRBY', K.pool, 'completions_' .. outcome, 1)
  end
end
-- A key of the wrong type must not keep from the books what was applied.
if not pcall(learn_all) then redis.call('HINCRBY', K.pool, 'completions_untaught', 1) end
save_tasks()
save_agents()
save_common()
reply[#reply + 1] = SOONEST_US or 0
reply[#reply + 1] = redis.call('EXISTS', K.release)
return reply
