-- Cells: what was learned of work, in the hash `est`. Each is a mean that forgets, and how many observations are behind it.
-- They are read once a call, and have numbers in it: a call may bring hundreds.
local CELLS, NAMES, N, MEAN, WIDE = {}, {}, {}, {}, {}
local CELL_COUNT, CELLS_READ, HAS_NEW_CELLS = 0, 0, false

local function cell(name)
  local i = CELLS[name]
  if not i then
    i = CELL_COUNT + 1
    CELL_COUNT, CELLS[name], NAMES[i], N[i], MEAN[i] = i, i, name, 0, 0
  end
  return i
end

-- One of the two widest of a task. n2 and var: of what the ladder left unexplained; scored: the mean when the waiting tasks of its role were
-- last scored (1000: they are to be once more); work and median: how long tasks took, and what the ladder alone had said, ms.
local function wide_cell(name, role)
  local i = cell(name)
  WIDE[i] = WIDE[i] or { role = role, n2 = 0, var = 0, scored = 0, work = 0, median = 0 }
  return i
end

local function read_cell(i, said)
  local w = WIDE[i]
  local n, mean, n2, var, scored, work, median
  if w then
    n, mean, n2, var, scored, work, median = string.match(said, '^(%d+) (%S+) ?(%S*) ?(%S*) ?(%S*) ?(%S*) ?(%S*)$')
    w.n2, w.var, w.scored, w.work, w.median = tonumber(n2) or 0, tonumber(var) or 0, tonumber(scored) or 0, tonumber(work) or 0, tonumber(median) or 0
  else
    n, mean = string.match(said, '^(%d+) (%S+)')
  end
  N[i], MEAN[i] = tonumber(n) or 0, tonumber(mean) or 0
end

-- To be called before anything is asked of a cell. They live in two generations: what the first does not have, the old one may.
local function read_cells()
  if CELLS_READ == CELL_COUNT then return end
  local missing, none, found = {}, 0, redis.call('HMGET', K.est, unpack(NAMES, CELLS_READ + 1, CELL_COUNT))
  for at = 1, #found do
    if found[at] then
      read_cell(CELLS_READ + at, found[at])
    else
      none = none + 1
      missing[none] = CELLS_READ + at
    end
  end
  CELLS_READ = CELL_COUNT
  if none == 0 then return end
  HAS_NEW_CELLS = true
  if redis.call('EXISTS', K.est_old) == 0 then return end
  local names = {}
  for at = 1, none do names[at] = NAMES[missing[at]] end
  found = redis.call('HMGET', K.est_old, unpack(names))
  for at = 1, none do
    if found[at] then read_cell(missing[at], found[at]) end
  end
end
