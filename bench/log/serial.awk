# The same as fold.lua: awk -v bytes=BYTES -f serial.awk LOG
{ status[$(NF - 1)]++; sum += $NF }
END { exit sum != bytes }
