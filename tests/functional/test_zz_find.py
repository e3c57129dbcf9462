import time
from hypothesis import given, settings, Phase
from tests.functional.test_express_differential import *
def test_find(served):
    seen=[]
    n=[0]
    @settings(max_examples=400, phases=[Phase.generate],derandomize=False,database=None)
    @given(conversations(served))
    def agree(pieces):
        n[0]+=1
        t=time.time()
        try:
            a=converse(served,0,pieces)
        except TimeoutError: a='timeout'
        t1=time.time()
        try:
            b=converse(served,1,pieces)
        except TimeoutError: b='timeout'
        t2=time.time()
        if t2-t>1 or a!=b:
            print('SLOW' if t2-t>1 else '', t1-t,t2-t1,'DIFF' if a!=b else '')
            for p in pieces: print('   >',p[:700])
            for x in (a,b): print('   <',x if isinstance(x,str) else re.sub(rb'[^\n\x20-\x7e]+',b'.',x)[-900:])
            seen.append(1)
            if len(seen)>12: raise SystemExit
    try: agree()
    except BaseException as e: print(repr(e)[:300])
    print('examples',n, 'express', served.express)
