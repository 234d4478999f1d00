-- cancel: waiting tasks will not run.
-- KEYS 1 meta
-- ARGV 1-3 genesis, schema, now_us | 4 reason | task ids
-- Returns per task: outcome, state before
-- Outcomes cancelled, already, assigned, finished, unknown
-- Keeps   a task that an agent holds is left alone
-- Uses    waiting, task
if #ARGV < 5 or #ARGV > 204 then bad('tasks: from 1 to 200') end
local reply = {}
for i = 5, #ARGV do
  local id, outcome = ARGV[i], 'cancelled'
  local t = load_task(id)
  if not t then
    outcome = 'unknown'
  elseif t.state == 'cancelled' then
    outcome = 'already'
  elseif t.state == 'assigned' then
    outcome = 'assigned'
  elseif t.state == 'completed' or t.state == 'dead' then
    outcome = 'finished'
  else
    stop_waiting(t)
    finish(t, 'cancelled', ARGV[4], '0')
    event('cancelled', id, '-', (string.gsub(ARGV[4], '%c', ' ')))
  end
  reply[#reply + 1] = outcome
  reply[#reply + 1] = t and t.state or ''
end
save_tasks()
save_common()
return reply
