-- reclaim: judges one agent's silence and takes back what it can no longer answer for.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 agent | 5 max_losses
-- Returns {verdict, requeued, ended, more (0, 1)}
-- Outcomes lost, gone, rebooted, alive, in_grace, must_retire, unknown
-- Keeps   silence is judged only against heartbeats that were applied; reclaimed work keeps its place;
--      who is late with its heartbeats is not free; a task whose next loss would be its last waits to be alone, so that one beside a task that kills agents does not die of it
-- Uses    agent, waiting, task, tries, late
local id, max_losses = ARGV[4], int(ARGV[5], 1, 100, 'max_losses')
local a = load_agent(id)
if a and must_retire(a) then return { 'must_retire', 0, 0, 0 } end
-- A removal goes first: after it the rest runs even when Redis is out of memory.
redis.call('ZREM', K.agent_timers, id)
if not a then return { 'unknown', 0, 0, 0 } end
local function look_again(at_ms) redis.call('ZADD', K.agent_timers, str(at_ms), id) end

local verdict, grace_until_ms = 'gone', nil
local said = redis.call('HMGET', k_agent(id), 'beat_ms', 'd')
local ttl_ms, interval_ms = string.match(said[2], '^(%d+)|(%d+)|')
local beat_ms, next_ms = tonumber(said[1]), late_ms(tonumber(ttl_ms), tonumber(interval_ms))
ttl_ms = tonumber(ttl_ms)
if a.state == 'live' then
  local meta = redis.call('HMGET', KEYS[1], 'hb_mark_ms', 'grace_until_ms')
  local silence = math.min(tonumber(meta[1]), now_ms) - math.min(beat_ms, now_ms)
  verdict = 'rebooted'
  if silence >= next_ms and next_ms < ttl_ms then
    -- Still trusted with what it has, but those who are late would be the least loaded, and hide the others from a bounded view.
    if a.mode == 'running' then
      a.mode = 'late'
      redis.call('HSET', k_agent(id), 'mode', 'late')
    end
    next_ms = ttl_ms
  end
  if silence > ttl_ms then
    if now_ms < tonumber(meta[2]) then
      -- No verdict yet, but nothing new either: the free index holds those who can be heard.
      grace_until_ms, a.mode = tonumber(meta[2]), 'silent'
      redis.call('HSET', k_agent(id), 'mode', 'silent')
    else
      verdict = 'lost'
      redis.call('ZREM', K.alive, id)
      redis.call('ZADD', K.gone, str(now_ms), id)
      a.state = 'lost'
      redis.call('HSET', k_agent(id), 'state', 'lost')
      class_members(a.class, -1)
      event('agent_lost', '-', id, str(silence))
    end
  end
end

local held, requeued, ended, left = redis.call('HGETALL', k_held(id)), 0, 0, 0
for i = 1, #held, 2 do
  local nonce, task_id = held[i], string.match(held[i + 1], '^%S+')
  if verdict ~= 'rebooted' or is_orphaned(held[i + 1]) then
    if requeued + ended == 150 then
      left = 1
      break
    end
    local t = load_task(task_id)
    close_lease(t, a, 'revoked')
    remember_try(t, 'lost')
    local losses = t.losses + 1
    count(t.role, 'reclaimed', 1)
    if t.cancel or losses >= max_losses then
      redis.call('HSET', k_task(task_id), 'losses', losses)
      if t.cancel then end_cancelled(t, '0') else finish(t, 'dead', 'lost', '0') end
      ended = ended + 1
    else
      if is_last_life(losses, max_losses) and not is_alone(t.lane) then change_lane(t, true, named_in_lane(t, 'tried')) end
      redis.call('HSET', k_task(task_id), 'state', 'pending', 'lane', t.lane, 'losses', losses, 'close', t.close)
      place_again(t)
      requeued = requeued + 1
    end
    event('reclaimed', task_id, id, nonce)
  end
end
if verdict == 'rebooted' and requeued + ended == 0 then verdict = grace_until_ms and 'in_grace' or 'alive' end
if left == 1 then
  look_again(now_ms)
elseif a.state == 'live' then
  look_again(math.min(grace_until_ms or math.max(beat_ms + next_ms, now_ms) + 1, retires_ms(a) or math.huge))
end
save_tasks()
save_agents()
save_common()
return { verdict, requeued, ended, left }
