-- cancel: waiting tasks will not run, running ones are asked to stop.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 reason | task ids
-- Returns per task: outcome, state before
-- Outcomes cancelled, cancel_sent, already, finished, unknown
-- Keeps   a task that an agent holds keeps its lease, and ends with it, however that ends
-- Uses    waiting, task
if #ARGV < 5 or #ARGV > 204 then bad('tasks: from 1 to 200') end
local reply, words, has_removed = {}, (string.gsub(ARGV[4], '%c', ' ')), false

-- The wish goes into the agent's inbox, once a lease; the lease remembers its entry.
local function ask_to_stop(t)
  local record = redis.call('HGET', k_held(t.agent), t.nonce)
  if string.find(record, ' cancel=', 1, true) then return end
  -- A removal of nothing goes first: after it the rest runs even when Redis is out of memory.
  if not has_removed then redis.call('ZREM', k_pending(t.role), t.id) end
  has_removed = true
  local entry = redis.call('XADD', k_inbox(t.agent), '*', 'v', '1', 'kind', 'cancel', 'task', t.id, 'attempt', t.attempt, 'lease', t.nonce)
  redis.call('HSET', k_held(t.agent), t.nonce, record .. ' cancel=' .. entry)
  redis.call('HSET', k_task(t.id), 'cancel', ARGV[4])
  event('cancel_sent', t.id, t.agent, words)
end

for i = 5, #ARGV do
  local id, outcome = ARGV[i], 'cancelled'
  local t = load_task(id)
  if not t then
    outcome = 'unknown'
  elseif t.state == 'cancelled' then
    outcome = 'already'
  elseif t.state == 'assigned' then
    ask_to_stop(t)
    outcome = 'cancel_sent'
  elseif t.state == 'completed' or t.state == 'dead' then
    outcome = 'finished'
  else
    stop_waiting(t)
    finish(t, 'cancelled', ARGV[4], '0')
    event('cancelled', id, '-', words)
  end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = t and t.state or ''
end
save_tasks()
save_common()
return reply
